package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	in := bufio.NewReader(os.Stdin)
	total, number := 0, 0
	for {
		if _, err := fmt.Fscan(in, &number); err != nil {
			break
		}
		total += number
	}
	fmt.Println(total)
}
