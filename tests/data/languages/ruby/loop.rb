puts "started"
$stdout.flush
loop {}
