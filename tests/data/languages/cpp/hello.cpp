#include <iostream>
#include <optional>

int main() {
    std::optional<const char *> word = "hello";
    std::cout << *word << std::endl;
}
