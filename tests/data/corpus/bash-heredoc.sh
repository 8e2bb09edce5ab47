name="Crucible"
cat <<END
Dear $name,
	two and two is $((2 + 2)), and \$name stays.
END
cat <<'RAW'
$name `is` not $((expanded))
RAW
cat <<-TABS
	leading tabs go
	TABS
read -r first second <<< "here string"
echo "$second $first"
