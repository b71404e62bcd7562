//! Beforehand: how confined somebody has to be for what will be asked, before anything was measured or verified.

use std::collections::BTreeSet;
use std::path::Path;

use sirocco_policy::{Confinement, Kind, Name};

use crate::artefact;
use crate::custody::{Custody, Question};
use crate::lineage::Lineage;

/// How a custody names what lies somewhere, before its bytes were read.
pub type Naming = fn(&Custody, &mut Lineage, Kind, &Path) -> Name;

/// The highest level that a process has by itself: for the next one it needs a broker.
const HIGHEST: Confinement = Confinement::Landlock;

impl Custody {
    /// Like [`will_use`](Custody::will_use), with what a record there says of itself. Nobody has verified it yet.
    fn will_use_recorded(&self, lineage: &mut Lineage, kind: Kind, path: &Path) -> Name {
        let name = self.will_use(lineage, kind, path);
        // What cannot be read is told by whoever uses it.
        if let Some(origin) = artefact::said(path).ok().flatten() {
            lineage.joins(&origin.lineage);
            lineage.makes(&name, [origin.artefact]);
        }
        name
    }

    /// The least confinement at which all of this would be allowed, as far as names tell: as for a plan, because what bytes have which digests,
    /// and who approved, is looked at inside. `None`: at none that a process has by itself.
    pub fn allowing(&self, questions: &[Question]) -> Option<Confinement> {
        let approved_by: BTreeSet<_> = self.gate().facts().principals().collect();
        let planned: Vec<_> = questions
            .iter()
            .map(|question| Question { planned: true, approved_by: approved_by.clone(), ..question.clone() })
            .collect();
        let allowed = |level: &Confinement| {
            let at = |question: &Question| Question { confinement: Some(*level), ..question.clone() };
            planned.iter().all(|question| self.ask(at(question)).is_ok())
        };
        Confinement::ALL.into_iter().filter(|level| *level <= HIGHEST).find(allowed)
    }

    /// The same of what is there already and may have a record: it is asked about what names tell, and about what records say, too. Where
    /// one of them does not tell, no network is needed for whatever it is.
    pub fn needs(&self, questions: impl Fn(Naming) -> Vec<Question>) -> Confinement {
        let of = |naming| self.allowing(&questions(naming)).unwrap_or(Confinement::Seccomp);
        of(Custody::will_use).max(of(Custody::will_use_recorded))
    }
}

#[cfg(test)]
mod tests {
    use sirocco_policy::Action;

    use super::*;
    use crate::custody::Settings;

    #[test]
    fn what_others_have_to_approve_has_the_level_that_it_needs_then() {
        let folder = tempfile::tempdir().unwrap();
        let rules = "@id(\"all\")\npermit(principal, action, resource)\nwhen { context.approvedByRoles.contains(\"officer\") && \
                     context.confinement.measured >= 3 };\n";
        std::fs::write(folder.path().join("policy.cedar"), rules).unwrap();
        let facts = "[site.local]\ncountry = \"FR\"\n[person.officer]\nroles = [\"officer\"]\n";
        std::fs::write(folder.path().join("facts.toml"), facts).unwrap();
        let set = folder.path().display().to_string();
        let settings = Settings { set, facts: vec![], purpose: None, site: "local".to_owned(), account: None };
        let custody = Custody::open(settings, folder.path(), None).unwrap();
        let export = Question::new(Action::Export, Name::new(Kind::Adapter, "tiny"), Lineage::default());
        assert_eq!(custody.allowing(&[export]), Some(Confinement::Landlock));
    }
}
