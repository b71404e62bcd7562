#!/bin/bash
# A job of {{ what }}, {{ directory }}; sirocco submit wrote this. By hand: sbatch {{ script }}
{% for option in options -%}
#SBATCH {{ option }}
{% endfor %}
{% if modules -%}
module load {{ modules | join(" ") }}
{% endif -%}
{% for name, value in exports -%}
export {{ name }}={{ value }}
{% endfor -%}
# Tests the nodes, starts the ranks with `{{ starter }}`, writes down how they end in jobs.jsonl of the run,
# and sees to what follows: the same ranks again, another job, or nothing.
exec {{ sirocco }} job {{ run }}
