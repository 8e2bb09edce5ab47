puts "started"
$stdout.flush
kept = []
loop { kept << "x" * (1 << 20) }
