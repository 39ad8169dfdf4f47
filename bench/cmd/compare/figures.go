package main

import (
	"math"
	"slices"
	"strconv"
)

// figures are what was measured of one thing, by their rounds. A round that has
// failed is not there.
type figures map[int]float64

func (f figures) values() []float64 {
	values := make([]float64, 0, len(f))
	for _, v := range f {
		values = append(values, v)
	}
	slices.Sort(values)
	return values
}

// median is NaN of nothing.
func (f figures) median() float64 {
	v := f.values()
	if len(v) == 0 {
		return math.NaN()
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// spread is the least and the most.
func (f figures) spread() string {
	v := f.values()
	if len(v) == 0 {
		return figure(math.NaN())
	}
	return figure(v[0]) + "–" + figure(v[len(v)-1])
}

// over returns the ratios of the rounds that both have: what slowed a round down
// met both, and is not in them.
func (f figures) over(other figures) figures {
	ratios := figures{}
	for round, v := range f {
		if w, ok := other[round]; ok && w != 0 {
			ratios[round] = v / w
		}
	}
	return ratios
}

// figure writes a number with as many digits as are worth it.
func figure(v float64) string {
	size := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case size == 0:
		return "0"
	case size < 0.0995:
		return strconv.FormatFloat(v, 'g', 2, 64)
	case size < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case size < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return count(int(math.Round(v)))
}

// count writes a number with commas, which make large ones legible.
func count(n int) string {
	if n < 0 {
		return "-" + count(-n)
	}
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
