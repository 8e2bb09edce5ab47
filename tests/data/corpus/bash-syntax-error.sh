echo "printed, since a shell reads line by line"
if true; then
  echo "fi is missing"
