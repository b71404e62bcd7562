//! A request and the facts as Cedar sees them: entities, a context, and a list of what is not known.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};

use crate::attributes::{Known, Sheet, level, text, texts};
use crate::confinement::Confinement;
use crate::decision::{Fact, Missing};
use crate::error::PolicyError;
use crate::facts::Facts;
use crate::labels::Labels;
use crate::lineage::{Lineage, ToldBy};
use crate::name::Name;
use crate::request::{Action, Request, Who, WhoKind};

/// Everything that the authorizer needs, and everything that it will lack.
pub(crate) struct World {
    pub(crate) request: cedar_policy::Request,
    pub(crate) entities: Entities,
    /// What is known, by the path under which rules read it.
    pub(crate) facts: Vec<Fact>,
    /// What is not, by the path under which rules read it.
    pub(crate) missing: Vec<Missing>,
    /// Artefacts of which nothing says what they were made from.
    pub(crate) unknown_lineage: Vec<Missing>,
    pub(crate) assumed: Vec<String>,
    /// The labels of the artefact.
    pub(crate) labels: Labels,
}

impl World {
    pub(crate) fn new(asked: &Request, facts: &Facts) -> Result<World, PolicyError> {
        check_kind(asked)?;
        let lineage = Lineage::of(asked, facts)?;
        let (mut assumed, mut entities) = (Vec::new(), Vec::new());
        let resource = resource(asked, &lineage, &mut assumed);
        let principal = principal(&asked.who, facts);
        let site = site(asked, facts);
        let node = node(asked, facts, &mut assumed);
        let context = context(asked, facts, node.as_deref(), &mut assumed)?;
        // All that it was made from, at whatever distance: Cedar would follow a long lineage by recursion.
        let ancestors = lineage.parents.keys().filter(|name| **name != asked.artefact).map(artefact_uid);
        let ancestors = ancestors.collect::<Result<HashSet<_>, _>>()?;
        entities.push(entity(artefact_uid(&asked.artefact)?, resource.values.clone(), ancestors)?);
        let site_uid = uid("Site", &asked.site)?;
        if let Some(node) = &node {
            // The node that a plan assumes is one of those that are listed.
            let known = asked.node.is_none() || facts.site(&asked.site).is_some_and(|site| site.has_node(node));
            entities.push(entity(uid("Node", node)?, HashMap::new(), known.then(|| site_uid.clone()).into_iter().collect())?);
        }
        entities.push(entity(site_uid, site.values.clone(), HashSet::new())?);
        entities.push(entity(who_uid(&asked.who)?, principal.values.clone(), HashSet::new())?);
        let action = uid("Action", asked.action.word())?;
        let values = Context::from_pairs(context.values.clone()).map_err(broken)?;
        let request = cedar_policy::Request::new(who_uid(&asked.who)?, action, artefact_uid(&asked.artefact)?, values, None);
        let sheets = [resource, principal, site, context];
        Ok(World {
            request: request.map_err(broken)?,
            entities: Entities::from_entities(entities, None).map_err(broken)?,
            facts: sheets.iter().flat_map(|sheet| sheet.facts.clone()).collect(),
            missing: sheets.iter().flat_map(|sheet| sheet.missing.clone()).collect(),
            unknown_lineage: unknown_lineage(&lineage),
            assumed,
            labels: lineage.labels,
        })
    }
}

fn broken(error: impl std::fmt::Display) -> PolicyError {
    PolicyError::Broken { message: error.to_string() }
}

fn check_kind(asked: &Request) -> Result<(), PolicyError> {
    let takes = asked.action.takes();
    if takes.contains(&asked.artefact.kind) {
        return Ok(());
    }
    let expected = takes.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(" or ");
    Err(PolicyError::Request { what: asked.action.to_string(), found: asked.artefact.to_string(), expected })
}

fn uid(of_type: &str, id: &str) -> Result<EntityUid, PolicyError> {
    let of_type: EntityTypeName = of_type.parse().map_err(broken)?;
    Ok(EntityUid::from_type_name_and_id(of_type, EntityId::new(id)))
}

fn artefact_uid(name: &Name) -> Result<EntityUid, PolicyError> {
    uid(name.kind.entity_type(), &name.name)
}

fn who_uid(who: &Who) -> Result<EntityUid, PolicyError> {
    uid(if who.kind == WhoKind::Person { "Person" } else { "ServiceAccount" }, &who.name)
}

type Values = HashMap<String, RestrictedExpression>;

fn entity(uid: EntityUid, values: Values, parents: HashSet<EntityUid>) -> Result<Entity, PolicyError> {
    Entity::new(uid, values, parents).map_err(broken)
}

fn resource(asked: &Request, lineage: &Lineage, assumed: &mut Vec<String>) -> Sheet {
    let mut sheet = Sheet::new("resource");
    let about = asked.artefact.to_string();
    for (index, label) in crate::attributes::of_labels(&lineage.labels).into_iter().enumerate() {
        for origin in &lineage.origins {
            let own = crate::attributes::of_labels(&origin.labels).into_iter().nth(index).and_then(|own| own.known);
            let why = match origin.told_by {
                ToldBy::Facts => "the facts do not say it",
                ToldBy::Record => "its record does not say it",
                ToldBy::OtherBytes => "the bytes at hand have another digest than the facts name",
                ToldBy::Unverified => "only a record says it, whose signature was not verified",
                ToldBy::Nobody => "no fact describes it, and nothing says what it was made from",
            };
            sheet.tell(label.attribute, &origin.name.to_string(), label.words, own.map(|known| known.words).ok_or(why));
        }
        if let Some(known) = label.known {
            let inherited = lineage.origins.iter().all(|origin| origin.name != asked.artefact);
            if inherited {
                sheet.tell(label.attribute, &about, label.words, Ok(known.words));
            }
            sheet.values.insert(label.attribute.to_owned(), known.value);
        }
    }
    if lineage.verified.is_none() {
        assumed.push(format!("the bytes that {about} is made from have the digests that the facts name"));
    }
    let verified = lineage.verified.unwrap_or(true);
    let flag = |flag: bool| Ok(Known::new(RestrictedExpression::new_bool(flag), flag));
    sheet.set("verified", &about, "verified digests", flag(verified));
    sheet.set("describedByUser", &about, "whether a user describes a part of it", flag(lineage.by_user));
    sheet
}

fn unknown_lineage(lineage: &Lineage) -> Vec<Missing> {
    let missing = |name: &Name| Missing {
        path: "resource".to_owned(),
        about: name.to_string(),
        name: "lineage".to_owned(),
        why: "nothing says what it was made from".to_owned(),
    };
    lineage.unknown.iter().map(missing).collect()
}

fn principal(who: &Who, facts: &Facts) -> Sheet {
    let mut sheet = Sheet::new("principal");
    let (about, known) = (who.to_string(), facts.principal(who));
    let why = if known.is_some() { "the facts do not say it" } else { "no fact describes them" };
    let known = known.cloned().unwrap_or_default();
    sheet.set("roles", &about, "roles", known.roles.map(texts).ok_or(why));
    sheet.set("clearance", &about, "clearance", known.clearance.map(level).ok_or(why));
    sheet.set("country", &about, "country", known.country.map(text).ok_or(why));
    sheet
}

fn site(asked: &Request, facts: &Facts) -> Sheet {
    let mut sheet = Sheet::new("context.site");
    let (about, known) = (format!("site:{}", asked.site), facts.site(&asked.site));
    let why = if known.is_some() { "the facts do not say it" } else { "no fact describes this site" };
    let known = known.cloned().unwrap_or_default();
    sheet.set("country", &about, "country", known.country.map(text).ok_or(why));
    sheet.set("operatorCountry", &about, "country of the operator", known.operator_country.map(text).ok_or(why));
    sheet.set("accredited", &about, "accreditation", known.accredited.map(level).ok_or(why));
    sheet
}

/// The node, or one that a plan assumes: the queue will choose it among those that the facts list for the site.
fn node(asked: &Request, facts: &Facts, assumed: &mut Vec<String>) -> Option<String> {
    let listed = || facts.site(&asked.site).and_then(|site| site.nodes.as_ref()).is_some_and(|nodes| !nodes.is_empty());
    if asked.node.is_none() && asked.planned && listed() {
        assumed.push(format!("the node is one of those that the facts list for site:{}", asked.site));
        return Some(format!("a node of {}", asked.site));
    }
    asked.node.clone()
}

fn context(asked: &Request, facts: &Facts, node: Option<&str>, assumed: &mut Vec<String>) -> Result<Sheet, PolicyError> {
    let mut sheet = Sheet::new("context");
    sheet.values.insert("site".to_owned(), RestrictedExpression::new_entity_uid(uid("Site", &asked.site)?));
    if let Some(node) = node {
        sheet.values.insert("node".to_owned(), RestrictedExpression::new_entity_uid(uid("Node", node)?));
        sheet.tell("node", &format!("site:{}", asked.site), "node", Ok(node.to_owned()));
    }
    let now = RestrictedExpression::new_datetime(asked.day.to_string());
    sheet.set("now", "the request", "day", Ok(Known::new(now, asked.day)));
    confinement(&mut sheet, asked, facts, assumed)?;
    purpose(&mut sheet, asked, facts)?;
    // Only people approve, and nobody approves their own request.
    let approvers = asked.approved_by.iter().filter(|who| who.kind == WhoKind::Person && **who != asked.who);
    let roles = approvers.filter_map(|who| facts.principal(who)?.roles.clone()).flatten().collect();
    sheet.set("approvedByRoles", "the request", "roles of those who approved", Ok(texts(roles)));
    if asked.action == Action::SendOut {
        recipients(&mut sheet, asked, facts)?;
    }
    Ok(sheet)
}

fn confinement(sheet: &mut Sheet, asked: &Request, facts: &Facts, assumed: &mut Vec<String>) -> Result<(), PolicyError> {
    let site = format!("site:{}", asked.site);
    let demanded = facts.site(&asked.site).and_then(|site| site.confinement);
    let measured = asked.confinement.or_else(|| {
        let promised = demanded.filter(|_| asked.planned)?;
        assumed.push(format!("the confinement of {site} is {promised}, as it demands"));
        Some(promised)
    });
    let level = |level: Confinement| Known::new(RestrictedExpression::new_long(i64::from(level.number())), level);
    let mut record = Sheet::new("context.confinement");
    record.set("demanded", &site, "demanded confinement", demanded.map(level).ok_or("the facts do not say it"));
    record.set("measured", &site, "measured confinement", measured.map(level).ok_or("it was not measured"));
    sheet.adopt("confinement", record).map_err(broken)
}

fn purpose(sheet: &mut Sheet, asked: &Request, facts: &Facts) -> Result<(), PolicyError> {
    let mut record = Sheet::new("context.purpose");
    let known = asked.purpose.as_ref().map(|name| (name, facts.purpose(name)));
    let about = asked.purpose.as_ref().map_or("the request".to_owned(), |name| format!("purpose:{name}"));
    let why = match known {
        None => "the request names none",
        Some((_, None)) => "no fact describes this purpose",
        Some((_, Some(_))) => "the facts do not say it",
    };
    let declared = known.and_then(|(name, purpose)| Some((name, purpose?)));
    record.set("name", &about, "purpose", declared.map(|(name, _)| text(name)).ok_or(why));
    let commercial = declared.and_then(|(_, purpose)| purpose.commercial);
    let commercial = commercial.map(|flag| Known::new(RestrictedExpression::new_bool(flag), flag));
    record.set("commercial", &about, "whether the purpose is commercial", commercial.ok_or(why));
    sheet.adopt("purpose", record).map_err(broken)
}

fn recipients(sheet: &mut Sheet, asked: &Request, facts: &Facts) -> Result<(), PolicyError> {
    let mut record = Sheet::new("context.recipients");
    let (mut countries, mut clearances) = (BTreeSet::new(), BTreeSet::new());
    for name in &asked.recipients {
        let (about, known) = (format!("recipient:{name}"), facts.recipient(name));
        let why = if known.is_some() { "the facts do not say it" } else { "no fact describes this recipient" };
        let (country, clearance) = (known.and_then(|known| known.country), known.and_then(|known| known.clearance));
        record.tell("countries", &about, "country", country.map(|country| country.to_string()).ok_or(why));
        record.tell("clearance", &about, "clearance", clearance.map(|level| level.word().to_owned()).ok_or(why));
        countries.insert(country);
        clearances.insert(clearance);
    }
    if asked.recipients.is_empty() {
        record.tell("names", "the request", "recipients", Err("the request names none"));
        record.tell("countries", "the request", "countries of the recipients", Err("the request names no recipient"));
        record.tell("clearance", "the request", "clearance of the recipients", Err("the request names no recipient"));
    } else {
        record.set("names", "the request", "recipients", Ok(texts(asked.recipients.clone())));
        // One unknown country makes the set of them unknown; so does one unknown clearance their lowest.
        let countries: Option<BTreeSet<_>> =
            countries.into_iter().map(|country| country.map(|known| known.to_string())).collect();
        let lowest = clearances.into_iter().collect::<Option<BTreeSet<_>>>().and_then(|all| all.first().copied());
        record.values.extend(countries.map(|all| ("countries".to_owned(), texts(all).value)));
        record.values.extend(lowest.map(|lowest| ("clearance".to_owned(), level(lowest).value)));
    }
    sheet.adopt("recipients", record).map_err(broken)
}
