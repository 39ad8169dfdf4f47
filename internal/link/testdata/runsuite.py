# Runs the Autobahn test suite that is installed in the directory which is the
# first argument; the others are wstest's.
import site
import sys

site.addsitedir(sys.argv.pop(1))

from autobahntestsuite.wstest import run

run()
