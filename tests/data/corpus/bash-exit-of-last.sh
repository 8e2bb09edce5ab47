set -o pipefail
true | (exit 4) | cat
echo "pipe ${PIPESTATUS[*]}"
false || echo "rescued"
(exit 9)
