#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

int main() {
    std::vector<long long> numbers;
    for (long long x; std::cin >> x;) numbers.push_back(x);
    std::vector<long long> total(numbers.begin() + 1, numbers.end());
    std::sort(total.begin(), total.end());
    for (size_t i = 0; i < total.size(); i++) printf("%s%lld", i ? " " : "", total[i]);
    printf("\n");
    return 0;
}
