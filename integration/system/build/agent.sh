# Builder: the client's agent as a package of its own.
mkdir -p $out/bin
cp $agent $out/bin/rookery-agent
chmod 555 $out/bin/rookery-agent
