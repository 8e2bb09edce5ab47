#include <iostream>
#include <vector>

int main() {
    std::cout << "started" << std::endl;
    std::vector<std::vector<char>> kept;
    for (;;) kept.emplace_back(1 << 20, 1);
}
