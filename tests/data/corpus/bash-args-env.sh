echo "$# arguments"
printf '<%s>\n' "$@"
echo "${GREETING} ${EMPTY:-was empty} ${MISSING-was missing}"
