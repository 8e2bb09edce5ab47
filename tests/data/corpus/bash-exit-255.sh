echo "bad state" >&2
exit 255
