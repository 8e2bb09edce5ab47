for n in 1 2 3; do
  echo "out $n"
  echo "err $n" >&2
done
{ echo both; echo both >&2; } 2>&1
