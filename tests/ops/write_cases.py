#!/usr/bin/env python3
"""Writes the cases of this folder: write_cases.py FOLDER"""
import os
import sys

import suite

sys.path.insert(0, os.path.dirname(__file__))
for file in sorted(os.listdir(os.path.dirname(os.path.abspath(__file__)))):
    if file.startswith("cases_") and file.endswith(".py"):
        __import__(file[:-3])
if suite.MISTAKES:
    sys.exit("\n".join(suite.MISTAKES))
suite.write(sys.argv[1])
print(f"{len(suite.CASES)} cases")
