"""What Python 3.12 has dropped and Theano's setup.py (versioneer 0.15) still wants."""

import configparser

configparser.SafeConfigParser = configparser.ConfigParser
configparser.ConfigParser.readfp = configparser.ConfigParser.read_file
