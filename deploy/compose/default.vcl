vcl 4.1;

backend default { .host = "origin"; .port = "80"; }

include "/etc/varnish/agezero.vcl";
