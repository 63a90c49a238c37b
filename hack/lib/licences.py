"""Holds the dependency tree against deny.toml with nothing but cargo: licences, banned crates, sources.

A stand-in for machines without cargo-deny. Usage: licences.py DENY.toml
"""
import json
import re
import subprocess
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    rules = tomllib.load(file)
allowed = set(rules["licenses"]["allow"])
banned = {entry["crate"]: entry["reason"] for entry in rules["bans"]["deny"]}
tree = ["cargo", "metadata", "--format-version", "1", "--locked"]
for target in rules["graph"]["targets"]:
    tree += ["--filter-platform", target]
metadata = json.loads(subprocess.run(tree, check=True, capture_output=True).stdout)


def satisfied(expression):
    """Whether an SPDX expression (AND, OR, parentheses) can be met with the allowed licences."""
    words = re.findall(r"\(|\)|[^()\s]+", expression.replace("/", " OR "))

    def either():
        value = both()
        while words and words[0] == "OR":
            words.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while words and words[0] == "AND":
            words.pop(0)
            value = one() and value
        return value

    def one():
        word = words.pop(0)
        if word == "(":
            value = either()
            words.pop(0)
            return value
        if words and words[0] == "WITH":
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return word in allowed

    return either()


used = {node["id"] for node in metadata["resolve"]["nodes"]}
problems = []
for package in metadata["packages"]:
    name = f"{package['name']} {package['version']}"
    if package["id"] not in used:
        continue
    if package["source"] and not package["source"].startswith("registry+"):
        problems.append(f"{name}: comes from {package['source']}, not from the registry")
    if package["name"] in banned:
        problems.append(f"{name}: banned: {banned[package['name']]}")
    if not package["license"]:
        if not package["license_file"]:
            problems.append(f"{name}: no licence")
    elif not satisfied(package["license"]):
        problems.append(f"{name}: licence {package['license']} is not allowed")
for problem in problems:
    print(problem)
print(f"licences: {len(used)} packages looked at, {len(problems)} problems")
sys.exit(bool(problems))
