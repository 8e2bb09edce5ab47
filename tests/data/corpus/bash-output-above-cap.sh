head -c 200000 /dev/zero | tr '\0' 'z'
echo "done" >&2
