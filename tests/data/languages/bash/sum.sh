total=0
while read -r line; do
    for number in $line; do total=$((total + number)); done
done
echo "$total"
