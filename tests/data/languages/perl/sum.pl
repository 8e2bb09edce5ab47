my $total = 0;
$total += $_ for map { split } <STDIN>;
print "$total\n";
