package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// seconds is a duration that may be given as a number of seconds, as in
// Python, or with a unit.
type seconds time.Duration

// UnmarshalText is called by kong.
func (s *seconds) UnmarshalText(text []byte) error {
	given := string(text)
	if n, err := strconv.ParseFloat(given, 64); err == nil {
		given = fmt.Sprintf("%fs", n)
	}
	d, err := time.ParseDuration(given)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a duration such as 30, 1.5s or 2m", text)
	}
	*s = seconds(d)
	return nil
}

// or returns d if no duration was given.
func (s seconds) or(d time.Duration) time.Duration { return cmp.Or(time.Duration(s), d) }

// days is a long duration. It must have a unit: a number alone could be meant as
// days, and files that are deleted too early do not come back.
type days time.Duration

// UnmarshalText is called by kong.
func (d *days) UnmarshalText(text []byte) error {
	const day = 24 * time.Hour
	total, rest := time.Duration(0), string(text)
	number, after, ok := strings.Cut(rest, "d")
	n, err := strconv.ParseFloat(number, 64)
	if ok && err == nil && n >= 0 && n <= float64(math.MaxInt64/2/day) {
		total, rest = time.Duration(n*float64(day)), after
	}
	if rest != "" || total == 0 {
		var more time.Duration
		if more, err = time.ParseDuration(rest); err == nil && more <= math.MaxInt64/2 {
			total += more
		} else {
			total = 0
		}
	}
	if total <= 0 || strings.Contains(rest, "-") {
		return fmt.Errorf("%q is not a duration such as 168h or 7d", text)
	}
	*d = days(total)
	return nil
}

// size is a number of bytes, which may have a unit.
type size int64

var sizeUnits = map[string]float64{
	"": 1, "B": 1,
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
}

// UnmarshalText is called by kong.
func (s *size) UnmarshalText(text []byte) error {
	n, err := parseSize(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a size such as 500MB, 10GiB or 1000000 (bytes)", text)
	}
	*s = size(n)
	return nil
}

func parseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "BKMGTibkmgtI ")
	unit, ok := sizeUnits[strings.ToUpper(strings.TrimSpace(text[len(number):]))]
	if !ok {
		return 0, errors.New("unknown unit")
	}
	if strings.Trim(number, "0123456789.") != "" { // neither a sign nor "inf"
		return 0, errors.New("not a number")
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && unit == 1 && n > 0 {
		return n, nil // to the byte
	}
	f, err := strconv.ParseFloat(number, 64)
	if f = math.Round(f * unit); err != nil || !(f >= 1 && f < math.MaxInt64) {
		return 0, errors.New("out of range")
	}
	return int64(f), nil
}

// describeSize is a size for people.
func describeSize(n int64) string {
	f, unit := float64(n), "B"
	for _, larger := range []string{"kB", "MB", "GB", "TB"} {
		if f < 999.95 {
			break
		}
		f, unit = f/1000, larger
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}
