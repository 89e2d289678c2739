#!/bin/sh
# Purge what the variables AGEZERO_PURGE_… name, one a line, and wait until it is proven. For CI: the GitHub Action calls this file, and the
# GitLab job holds a copy of it. AGEZERO_URL and AGEZERO_PRIVATE_KEY say where and as whom. It ends with the code of `agezero purge`.
set -eu

list=$(mktemp)
trap 'rm -f "$list"' EXIT

# flag NAME VALUE: is it wanted? A word that is neither must not pass for no.
flag() {
  case $2 in
    true) return 0 ;;
    false) return 1 ;;
    *) echo "error: $1 is '$2'; expected true or false" >&2; exit 1 ;;
  esac
}

# lines WORD TEXT: each line of TEXT as `agezero purge --from-file` reads it
lines() { printf '%s\n' "$2" | sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^$/d' -e "s/^/$1/"; }
lines '' "${AGEZERO_PURGE_URLS:-}" > "$list"
lines 'prefix ' "${AGEZERO_PURGE_PREFIXES:-}" >> "$list"
lines 'tag ' "${AGEZERO_PURGE_TAGS:-}" >> "$list"
lines 'host ' "${AGEZERO_PURGE_HOSTS:-}" >> "$list"
lines 'asset ' "${AGEZERO_PURGE_ASSETS:-}" >> "$list"
if [ -n "${AGEZERO_PURGE_FILE:-}" ]; then cat -- "$AGEZERO_PURGE_FILE" >> "$list"; fi

set -- --from-file "$list" --timeout "${AGEZERO_PURGE_TIMEOUT:-60s}" --note "${AGEZERO_PURGE_NOTE:-}"
flag AGEZERO_PURGE_EVERYTHING "${AGEZERO_PURGE_EVERYTHING:-false}" && set -- "$@" --everything --yes
flag AGEZERO_PURGE_SOFT "${AGEZERO_PURGE_SOFT:-false}" && set -- "$@" --soft
flag AGEZERO_PURGE_WAIT "${AGEZERO_PURGE_WAIT:-true}" && set -- "$@" --wait

code=0
said=$(agezero purge "$@") || code=$?
printf '%s\n' "$said"
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  { echo 'ids<<END-OF-IDS'; printf '%s\n' "$said" | cut -d ' ' -f 1; echo 'END-OF-IDS'; } >> "$GITHUB_OUTPUT"
fi
exit "$code"
