work() { echo $(($1 * $1)) > "$2/$1"; return "$1"; }
folder=$(mktemp -d)
for n in 1 2 3; do work $n "$folder" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid"; echo "exit $?"; done
cat "$folder"/1 "$folder"/2 "$folder"/3
diff <(echo a; echo b) <(echo a; echo c)
