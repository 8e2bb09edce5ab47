#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

int main() {
    std::vector<long long> numbers;
    for (long long x; std::cin >> x;) numbers.push_back(x);
    long long total = numbers[0];
    total += 1;
    for (long long d = total; d > 0; d--) if (total % d == 0) printf("%lld\n", d);
    return 0;
}
