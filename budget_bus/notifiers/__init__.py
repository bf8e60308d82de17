"""
budget.alerts -> people and their tools. Follow an alert by the file names:

subscriber.py  reads the topic with FastStream, once per channel, each at its own pace
courier.py     hands one alert to one channel until it is taken or given up
attempts.py    when to try again, and when not: values in, values out
webhook.py  slack.py  mail.py  log.py   the channels      signature.py  how a webhook is signed
posting.py     one HTTP request and what its answer means
wording.py     the alert in words, with nothing in them that a name could do harm with
"""
