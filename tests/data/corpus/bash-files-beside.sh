. ./lib.sh
greet "$(head -n 1 names.txt)"
grep -c . names.txt
