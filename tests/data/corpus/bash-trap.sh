trap 'echo "cleaning up"' EXIT
trap 'echo "caught USR1"' USR1
kill -USR1 $$
echo "working"
exit 5
