package main

import (
	"math"
	"testing"
)

func TestFigures(t *testing.T) {
	for _, c := range []struct {
		figures figures
		median  float64
		spread  string
	}{
		{figures{}, math.NaN(), "–"},
		{figures{2: 4}, 4, "4.00–4.00"},
		{figures{1: 4, 2: 1}, 2.5, "1.00–4.00"},
		{figures{1: 9, 2: 1, 3: 2}, 2, "1.00–9.00"},
		{figures{1: 9, 2: 1, 3: 2, 4: 3}, 2.5, "1.00–9.00"},
	} {
		if got := c.figures.median(); got != c.median && !(math.IsNaN(got) && math.IsNaN(c.median)) {
			t.Errorf("%v: the median is %v, want %v", c.figures, got, c.median)
		}
		if got := c.figures.spread(); got != c.spread {
			t.Errorf("%v: the spread is %s, want %s", c.figures, got, c.spread)
		}
	}
}

// Only the rounds that both have are compared: a round in which the machine was
// slow would count for one of them.
func TestRatio(t *testing.T) {
	our := figures{1: 1, 2: 20, 3: 3}
	if got := our.over(figures{1: 2, 2: 40, 3: 3, 4: 7}).median(); got != 0.5 {
		t.Errorf("got %v", got)
	}
	if got := our.over(figures{2: 10}).median(); got != 2 {
		t.Errorf("one round: got %v", got)
	}
	if got := our.over(figures{2: 0, 9: 1}).median(); !math.IsNaN(got) {
		t.Errorf("no round: got %v", got)
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.00294: "0.0029", 0.0999: "0.10", 0.289: "0.29", 9.99: "9.99", 9.999: "10.0", 12.34: "12.3", 50: "50.0", 99.96: "100", 999.7: "1,000",
		1234567: "1,234,567", -1.5: "-1.50", -12345: "-12,345", math.NaN(): "–", math.Inf(1): "–",
	} {
		if got := figure(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 50: "50", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := count(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
