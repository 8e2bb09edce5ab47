a=0 b=1
for ((n = 0; n < 90; n++)); do
  ((n % 10 == 0)) && echo "$n $a"
  c=$((a + b)) a=$b b=$c
done
exit 0
