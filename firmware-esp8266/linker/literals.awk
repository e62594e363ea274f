# LLVM prints the literals of a function before the .section line of that function, where they would fall into the section of the
# function before. They are held back until the function's own section is open.
/^\t\.literal/ { held = held $0 "\n"; next }
/^\t\.type\t.*,@function/ { printf "%s", held; held = "" }
{ print }
END {
  if (held != "") {
    print "literals.awk: literals without a function" > "/dev/stderr"
    exit 1
  }
}
