// Runs checks one after the other, prints a line for each, and says whether one has failed.
package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"time"
)

type check struct {
	name string
	body func(ctx context.Context)
}

// runAll ends the program with 1 if a check has failed.
func runAll(checks []check) {
	failed := 0
	for _, c := range checks {
		if problem := run(c); problem != nil {
			failed++
			fmt.Printf("FAILED %s: %v\n", c.name, problem)
		} else {
			fmt.Printf("ok %s\n", c.name)
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}

func run(c check) (problem interface{}) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	defer func() { problem = recover() }()
	c.body(ctx)
	return nil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func same(wanted, found interface{}) {
	if !reflect.DeepEqual(wanted, found) {
		panic(fmt.Sprintf("wanted %v, found %v", wanted, found))
	}
}
