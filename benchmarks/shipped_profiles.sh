#!/usr/bin/env bash
# Measures the shipped profiles of one machine. Run nothing else on the machine at the same time.
#
#     bash benchmarks/shipped_profiles.sh MACHINE      for example epyc-zen4-2core
#
# Takes about an hour. Existing profiles are not measured again. Profiles with too much noise are reported at
# the end and removed.
set -euo pipefail
cd "$(dirname "$0")/.."
machine=${1:?name the machine, such as epyc-zen4-2core}
python=${PYTHON:-python}
profiles=hw_profiles/profiles
for space in digits cifar ofa-mbv3-w1.0; do
    for precision in fp32 int8; do
        for threads in 1 2; do
            name=$machine-$space-$precision-${threads}t
            test -e "$profiles/$name/profile.json" || "$python" -c 'from nas.cli.main import main; main()' \
                profile "$space" --device "$name" --profiles "$profiles" \
                --precision "$precision" --threads "$threads"
        done
    done
done
"$python" - "$profiles" <<'END'
import shutil, sys
from hw_profiles.store import ProfileStore
from hw_profiles.profile_warnings import profile_warnings

store = ProfileStore(sys.argv[1])
for profile in store.profiles():
    for warning in profile_warnings(profile):
        print(warning)
    if profile.too_noisy:
        shutil.rmtree(store.folder(profile.name))
END
