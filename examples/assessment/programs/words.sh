# The most frequent word of standard input.
tr -cs '[:alpha:]' '\n' | sort | uniq -c | sort -k1,1nr -k2 | head -n 1 | awk '{print $2}'
