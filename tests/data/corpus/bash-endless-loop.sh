echo "looping"
while :; do sleep 0.05; done
