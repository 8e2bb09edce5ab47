echo "asking to stop"
kill -TERM $$
echo "never printed"
