total=0
while IFS=, read -r name amount || [[ -n $name ]]; do
  printf '%-8s|%6d\n' "$name" "$amount"
  ((total += amount))
done
echo "total $total"
