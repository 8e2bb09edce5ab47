file=$(mktemp)
seq 1 1000 > "$file"
wc -l < "$file" | tr -d ' '
awk '{ s += $1 } END { print s }' "$file"
rm "$file"
[[ -e $file ]] || echo gone
