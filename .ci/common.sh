# What `.ci/run` and `.ci/nightly` have in common: an environment, on a bare Debian machine with Python >= 3.11 and pip, as root.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CI=true
export PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore # uv goes beside Debian's own Python
unset VIRTUAL_ENV                                              # the environment is made here, from this checkout

# Debian packages that tests start programs of.
debian_packages=(chromium munge slurm-client slurmctld slurmd)

install_debian_packages() {
    if ((${#debian_packages[@]} == 0)); then
        return
    fi
    apt-get update --quiet=2
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${debian_packages[@]}"
}

install_uv() {
    if ! command -v uv >/dev/null; then
        python3 -m pip install --quiet uv
    fi
}

step() {
    printf '\n==> %s (after %d s)\n' "$*" "$SECONDS"
    "$@"
}

# A step that goes on beside those that follow: `finish` waits for it, and shows what it said.
beside() {
    printf '\n==> %s (beside the others, after %d s)\n' "$*" "$SECONDS"
    beside_command=$*
    beside_output=$(mktemp)
    "$@" >"$beside_output" 2>&1 &
    beside_pid=$!
    trap 'kill "$beside_pid" 2>/dev/null || true' EXIT
}

finish() {
    if [[ -v beside_pid ]]; then
        printf '\n==> %s said:\n' "$beside_command"
        wait "$beside_pid" || { cat "$beside_output"; exit 1; }
        cat "$beside_output"
    fi
    printf '\n==> all done after %d s\n' "$SECONDS"
}
