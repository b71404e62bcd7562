#!/usr/bin/env bash
# The ministry of the demonstration: the ready rules for Luxembourg's public sector with facts and keys of its own, in DIRECTORY.
#
#   scripts/demo_policy.sh SIROCCO DIRECTORY
#
# One person plays every part here: the account that runs this is steward, engineer and operator, and `officer`, who approves exports, is a
# key that lies beside theirs. The corpus is public; it is labelled as if it were the ministry's own, so that the rules have something to hold.
set -euo pipefail
sirocco=$1 directory=$2
if [ ! -f "$directory/trust/roles.json" ]; then # written last
  rm -rf "$directory"
  mkdir -p "$directory/trust/ledger"
  "$sirocco" keys new "$directory/keys" >/dev/null
  "$sirocco" keys new "$directory/officer" --name officer >/dev/null
  cp "$directory/keys/release.pub" "$directory/trust/release.pub"
  cp "$directory/keys/ledger/log.pub" "$directory/trust/ledger/log.pub"
  cp "$directory/officer/release.pub" "$directory/trust/officer.pub"
  printf '{"release": ["checkpoint", "release"], "officer": ["approve"]}\n' >"$directory/trust/roles.json"
fi
# The rules are made anew each time: the machine may have another name by now.
rm -rf "$directory/rules"
"$sirocco" policy init "$directory/rules" --from luxembourg-public >/dev/null
rm -f "$directory/rules/cases.toml" # they speak of the facts of the ready set
cat >"$directory/rules/facts.toml" <<FACTS
[purpose.public-administration]
commercial = false

[data.doda]                            # the sources, and what was prepared of them
path = "data/sources/pydoda-1.0.3"
residency = ["LU"]
classification = "restricted"
licence = "MIT"
commercial_use = true
personal_data = "none"
purposes = ["public-administration"]
expires = "never"

[data.darija]
path = "data/darija"
residency = ["LU"]
classification = "restricted"
licence = "MIT"
commercial_use = true
personal_data = "none"
purposes = ["public-administration"]
expires = "never"

[model.smollm2-as-downloaded]          # licence: the model's card
path = "data/sources/smollm2"
residency = "anywhere"
classification = "public"
licence = "Apache-2.0"
commercial_use = true
personal_data = "none"
purposes = "any"
expires = "never"

[model.smollm2]
path = "models/smollm2-135m"
residency = "anywhere"
classification = "public"
licence = "Apache-2.0"
commercial_use = true
personal_data = "none"
purposes = "any"
expires = "never"

[site.local]                           # as if this machine stood there
country = "LU"
operator_country = "LU"
accredited = "restricted"
confinement = 2
nodes = ["$(cat /proc/sys/kernel/hostname)"]

[site.leonardo]
country = "IT"
operator_country = "IT"
accredited = "restricted"
confinement = 2

[person."$(id -un)"]
roles = ["data-steward", "engineer", "operator"]
clearance = "restricted"
country = "LU"

[person.officer]
roles = ["data-protection"]
clearance = "restricted"
country = "LU"
FACTS
