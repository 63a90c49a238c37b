import os,json,subprocess,sys,resource
