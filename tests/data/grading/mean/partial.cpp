#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

int main() {
    std::vector<long long> numbers;
    for (long long x; std::cin >> x;) numbers.push_back(x);
    double total = 0;
    for (size_t i = 1; i < numbers.size(); i++) total += numbers[i];
    total /= numbers[0];
    if (numbers[0] > 20) total += 1;
    printf("%.9f\n", total);
    return 0;
}
