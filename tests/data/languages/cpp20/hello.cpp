#include <concepts>
#include <iostream>
#include <ranges>

template <std::integral T>
T same(T value) { return value; }

int main() {
    for (int turn : std::views::iota(0, same(1)))
        std::cout << (turn ? "" : "hello") << std::endl;
}
