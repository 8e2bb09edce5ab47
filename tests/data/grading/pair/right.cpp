#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

int main() {
    std::vector<long long> numbers;
    for (long long x; std::cin >> x;) numbers.push_back(x);
    long long total[] = {1, numbers[0] - 1};
    printf("%lld %lld\n", total[0], total[1]);
    return 0;
}
