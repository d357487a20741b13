# Writes docs/api.md from core/calotype.h: awk -f tests/tools/api_doc.awk core/calotype.h
# A group is a comment and the declarations below it up to the next comment or empty line. "// ---- X" begins a section;
# what a comment indents by four is shown as it is.

BEGIN {
    print "# The library's functions and structs"
    print ""
    print "Made from [`core/calotype.h`](../core/calotype.h) by `./dev docs`; do not edit."
}

inside { if (/^}/) inside = 0; next }
/^\/\/ ---- / { flush(); print "\n## " substr($0, 9); next }
/^\/\// { if (code != "" && !depth) flush(); text = text substr($0, 4) "\n"; next }
/^$/ && !depth { flush(); next }
/^#/ { if (/CALO_API_VERSION/) { code = code $0 "\n"; flush() } next }
/^extern "C"/ || (/^}$/ && !depth) { flush(); next }
{
    if (sub(/^CALO_API /, "")) public = 1
    else if (public) sub(/^         /, "")
    if (/;/) public = 0
    if (/^static inline /) { sub(/^static inline /, ""); sub(/ \{$/, ";"); code = code $0 "\n"; inside = 1; next }
    depth += gsub(/\{/, "{") - gsub(/}/, "}")
    code = code $0 "\n"
}
END { flush() }

# A group as Markdown: names, declarations, words. A comment without declarations is words only.
function flush() {
    if (code != "") {
        print "\n### " names(code) "\n\n```c"
        printf "%s", code
        print "```"
    }
    if (text != "") words(text)
    text = code = ""
}

function words(t, lines, n, i, shown) {
    n = split(t, lines, "\n") - 1
    print ""
    for (i = 1; i <= n; i++) {
        if (lines[i] ~ /^    / && !shown) { printf "%s```\n", (i > 1 && lines[i - 1] != "" ? "\n" : ""); shown = 1 }
        else if (shown && lines[i] !~ /^    /) { print lines[i] == "" ? "```" : "```\n"; shown = 0 }
        if (!shown) gsub(/\*/, "\\*", lines[i])
        print shown ? substr(lines[i], 5) : lines[i]
    }
    if (shown) print "```"
}

# The functions and types that the declarations introduce.
function names(c, lines, n, i, list, name, w, k, level) {
    n = split(c, lines, "\n")
    for (i = 1; i <= n; i++) {
        name = ""
        if (!level && match(lines[i], /calo_[a-z0-9_]+\(/)) name = substr(lines[i], RSTART, RLENGTH - 1)
        else if (!level && lines[i] ~ /^#define /) { split(lines[i], w, " "); name = w[2] }
        else if (match(lines[i], /[a-z_0-9]+;$/) && lines[i] ~ /^(}|typedef)/) name = substr(lines[i], RSTART, RLENGTH - 1)
        else if (lines[i] ~ /^struct /) { split(lines[i], w, " "); name = w[2] }
        level += gsub(/\{/, "{", lines[i]) - gsub(/}/, "}", lines[i])
        if (name != "") list = list (list == "" ? "" : ", ") "`" name "`"
    }
    return list
}
