"""Restores what Python 3.12 has removed and Theano's setup.py (versioneer 0.15) needs."""

import configparser

configparser.SafeConfigParser = configparser.ConfigParser
configparser.ConfigParser.readfp = configparser.ConfigParser.read_file
