declare -A stock=([pear]=3 [fig]=7 [plum]=0)
for fruit in $(printf '%s\n' "${!stock[@]}" | LC_ALL=C sort); do
  echo "$fruit ${stock[$fruit]}"
done
list=(zero one two three)
list+=("four five")
echo "${#list[@]} ${list[-1]} ${list[*]:1:2}"
word="crucible.tar.gz"
echo "${word%%.*} ${word#*.} ${word^^} ${word/tar/zip} ${#word}"
