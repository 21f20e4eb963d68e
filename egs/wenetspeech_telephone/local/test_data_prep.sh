#!/usr/bin/env bash
# The whole of stage 0 on 50 utterances of each set, in seconds: every step, the report and its check.
#
# Takes the options of run.sh; what it makes lies in data/stage0-test and is no part of the data.

set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
exec bash "${here%/*}/run.sh" --test true "$@"
