#include <iostream>
#include <string>

int main() {
    int low = 0, high = 500;
    std::string answer;
    while (answer != "yes") {
        int guess = (low + high) / 2;
        std::cout << "" << guess << std::endl;
        if (!(std::cin >> answer)) return 1;
        if (answer == "low") low = guess + 1;
        else high = guess - 1;
    }
    return 0;
}
