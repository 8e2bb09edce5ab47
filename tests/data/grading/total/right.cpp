#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

int main() {
    std::vector<long long> numbers;
    for (long long x; std::cin >> x;) numbers.push_back(x);
    long long total = 0;
    for (size_t i = 1; i < numbers.size(); i++) total += numbers[i];
    printf("%lld\n", total);
    return 0;
}
