package main

import "fmt"

var kept [][]byte

func main() {
	fmt.Println("started")
	for {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = 1
		}
		kept = append(kept, block)
	}
}
