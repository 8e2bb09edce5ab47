printf '\x00\x01\xfe\xff\r\n\x1b[0m'
printf 'no newline'
